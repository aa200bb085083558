/* The smallest FastCGI application on libfcgi: hello_fcgi SOCKET THREADS. At /large it answers 1 GiB.

   A connection that the web server keeps open occupies a thread until it is closed, so there must be more
   threads than the web server keeps connections: else new ones would wait for ever. */

#include <fcgiapp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BACKLOG 1024
#define STACK (128 * 1024)
#define LARGE (1 << 30)

static int listening;

static char piece[64 * 1024];

static void say_much(FCGX_Request *request)
{
    int left;

    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", LARGE);
    for (left = LARGE; left > 0; left -= sizeof piece)
        if (FCGX_PutStr(piece, sizeof piece, request->out) < 0)
            return;
}

static void *serve(void *unused)
{
    FCGX_Request request;
    char body[4096];
    const char *uri;

    (void)unused;
    FCGX_InitRequest(&request, listening, 0);
    while (FCGX_Accept_r(&request) == 0) {
        /* The end of the body may come after the rest. If it were left unread, libfcgi would take it for
           the start of the next request, and close the connection. */
        while (FCGX_GetStr(body, sizeof body, request.in) > 0)
            ;
        uri = FCGX_GetParam("REQUEST_URI", request.envp);
        if (uri != NULL && strcmp(uri, "/large") == 0)
            say_much(&request);
        else
            FCGX_PutS("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!",
                      request.out);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int threads = argc == 3 ? atoi(argv[2]) : 0;

    if (threads < 1) {
        fprintf(stderr, "usage: %s SOCKET THREADS\n", argv[0]);
        return 2;
    }
    umask(0); /* web servers that drop their privileges connect too */
    FCGX_Init();
    listening = FCGX_OpenSocket(argv[1], BACKLOG);
    if (listening < 0) {
        perror(argv[1]);
        return 1;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    while (--threads > 0) {
        if (pthread_create(&thread, &attributes, serve, NULL) != 0) {
            fputs("cannot start a thread\n", stderr);
            return 1;
        }
    }
    serve(NULL);
    return 0;
}
