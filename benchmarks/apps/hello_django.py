"""The smallest Django project, with the middleware that a new one has for requests without sessions."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for nobody",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)

from django.core.asgi import get_asgi_application  # noqa: E402 - needs the settings
from django.core.wsgi import get_wsgi_application  # noqa: E402


def hello(request: HttpRequest) -> HttpResponse:
    """Answer a WSGI server."""
    return HttpResponse(b"Hello, world!", content_type="text/plain")


async def hello_async(request: HttpRequest) -> HttpResponse:
    """Answer an ASGI server."""
    return HttpResponse(b"Hello, world!", content_type="text/plain")


urlpatterns = [path("", hello), path("async", hello_async)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
