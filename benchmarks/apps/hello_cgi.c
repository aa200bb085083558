/* The smallest CGI program. */

#include <stdio.h>

int main(void)
{
    fputs("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!", stdout);
    return 0;
}
