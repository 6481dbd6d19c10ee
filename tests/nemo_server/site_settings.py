"""Django settings of the test server: the least with which NEMO answers its API."""

import os
from pathlib import Path

SITE = Path(os.environ["NX_TEST_NEMO_SITE"])

SECRET_KEY = "for tests on loopback only"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "NEMO.urls"
AUTH_USER_MODEL = "NEMO.User"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
LOGIN_URL = "login"
# Without this NEMO has no /api/ at all.
ALLOW_CONDITIONAL_URLS = True
INTERLOCKS_ENABLED = False
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

USE_TZ = True
USE_I18N = False
TIME_ZONE = os.environ.get("NX_TEST_NEMO_TIME_ZONE", "America/New_York")
DATE_INPUT_FORMATS = ["%m/%d/%Y"]
TIME_INPUT_FORMATS = ["%I:%M:%S %p"]
DATETIME_INPUT_FORMATS = ["%m/%d/%Y %I:%M:%S %p"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(SITE / "nemo.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}
# Tables are made from the models: seconds in place of a minute of migrations.
MIGRATION_MODULES = {"NEMO": None, "auditlog": None}
STATIC_URL, MEDIA_URL = "/static/", "/media/"
STATIC_ROOT, MEDIA_ROOT = str(SITE / "static"), str(SITE / "media")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "django.contrib.humanize",
    "NEMO",
    "NEMO.apps.kiosk",
    "NEMO.apps.area_access",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "mptt",
    "auditlog",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "NEMO.middleware.DeviceDetectionMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["NEMO.permissions.DjangoModelPermissions"],
    "DEFAULT_FILTER_BACKENDS": ["NEMO.rest_filter_backend.NEMOFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "NEMO.rest_pagination.NEMOPageNumberPagination",
    "PAGE_SIZE": 1000,
}
if os.environ.get("NX_TEST_NEMO_DATETIME_FORMAT"):
    REST_FRAMEWORK["DATETIME_FORMAT"] = os.environ["NX_TEST_NEMO_DATETIME_FORMAT"]
