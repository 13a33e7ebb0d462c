/* Its standard input on its standard output. */
#include <unistd.h>

int main(void) {
    char bytes[4096];
    for (ssize_t got; (got = read(0, bytes, sizeof bytes)) > 0;)
        if (write(1, bytes, got) != got)
            return 1;
}
