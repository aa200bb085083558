"""A shop by Django: the admin site, a form with a file; `python shop_app.py` makes its database."""

import hashlib
from typing import Any

import django
from django import forms
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path, reverse

settings.configure(
    DEBUG=False,
    SECRET_KEY="not a secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    STATIC_URL="static/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # the others take their time
    INSTALLED_APPS=[
        f"django.contrib.{name}"
        for name in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
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
    ],
)
django.setup()

from django.contrib import admin  # noqa: E402 - it takes the settings

PAGE = """<!doctype html>
<title>Order</title>
<link rel="icon" href="data:,">
<form method="post" enctype="multipart/form-data">
<input type="hidden" name="csrfmiddlewaretoken" value="{token}">
{form}<button>Order</button></form>
"""


class Order(forms.Form):  # type: ignore[misc]  # Django has no types
    what = forms.CharField()
    picture = forms.FileField()


def order(request: HttpRequest) -> HttpResponse:
    form: Any = Order(request.POST or None, request.FILES or None)
    if not form.is_valid():
        return HttpResponse(PAGE.format(token=get_token(request), form=form.as_p()))
    md5 = hashlib.md5()
    for piece in form.cleaned_data["picture"].chunks():
        md5.update(piece)
    request.session["ordered"] = f"{form.cleaned_data['what']} {md5.hexdigest()}"
    return redirect(request.build_absolute_uri(reverse("ordered")))


def ordered(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.session["ordered"], content_type="text/plain")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("order/", order),
    path("ordered/", ordered, name="ordered"),
]

application = get_wsgi_application()

if __name__ == "__main__":
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ann", "ann@example.com", "secret")
