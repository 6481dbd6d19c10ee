"""Addresses of the test server, where published CDCS projects have them."""

from core_main_app.admin import core_admin_site
from django.conf import settings
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("core-admin/", core_admin_site.urls),
    path("tz_detect/", include("tz_detect.urls")),
    path("explore/keyword/", include("core_explore_keyword_app.urls")),
    path("explore/common/", include("core_explore_common_app.urls")),
    path("dashboard/", include("core_dashboard_app.urls")),
    *(path("pid/", include(f"{app}.urls")) for app in settings.LINKED_RECORDS),
    path("", include("core_main_app.urls")),
    path("", include("core_website_app.urls")),
]
