"""Django settings of the test server: the least with which CDCS answers its REST API and its pages."""

import os
from pathlib import Path

SITE = Path(os.environ["NX_TEST_CDCS_SITE"])
FULL = os.environ["NX_TEST_CDCS_FULL"] == "1"

SECRET_KEY = "for tests on loopback only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
SERVER_URI = os.environ["NX_TEST_CDCS_URL"].rstrip("/")
ROOT_URLCONF = "site_urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/login"
SITE_ID = 1
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
TIME_ZONE = "UTC"

if os.environ["NX_TEST_CDCS_DATABASE"] == "sqlite":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(SITE / "cdcs.sqlite3"),
            "OPTIONS": {"timeout": 30},
        }
    }
else:
    # CDCS installs its full-text trigger only under this old name of the engine.
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql_psycopg2",
            "HOST": str(SITE / "postgres"),
            "NAME": "postgres",
            "USER": "cdcs",
        }
    }
STATIC_URL, MEDIA_URL = "/static/", "/media/"
STATIC_ROOT, MEDIA_ROOT = str(SITE / "static"), str(SITE / "media")
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 2**20

LINKED_RECORDS = ["core_linked_records_app"] if FULL else []
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "menu",
    "tz_detect",
    "captcha",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "fontawesomefree",
    "core_main_app",
    "core_explore_common_app",
    "core_explore_keyword_app",
    "core_website_app",
    "core_dashboard_common_app",
    "core_dashboard_app",
    *LINKED_RECORDS,
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tz_detect.middleware.TimezoneMiddleware",
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
                "core_main_app.utils.custom_context_processors.domain_context_processor",
                "django.template.context_processors.i18n",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

# Without a broker: what CDCS hands to Celery is done within the request.
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_EAGER_PROPAGATES = True
CELERY_BROKER_URL, CELERY_RESULT_BACKEND = "memory://", "cache+memory://"
CELERYBEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

CUSTOM_NAME = "CDCS for tests"
MONGODB_INDEXING = MONGODB_ASYNC_SAVE = False
ENABLE_ALLAUTH = ENABLE_SAML2_SSO_AUTH = False
CAN_ANONYMOUS_ACCESS_PUBLIC_DOCUMENT = True
DATA_SOURCES_EXPLORE_APPS: list[str] = []
CHECKSUM_ALGORITHM = "SHA256"

AUTO_SET_PID = FULL
PID_PATH = "Experiment.@pid"
ID_PROVIDER_PREFIXES = ["cdcs"]
BACKWARD_COMPATIBILITY_DATA_XML_CONTENT = not FULL
