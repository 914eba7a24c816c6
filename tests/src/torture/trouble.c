/* What can befall a worker, at a signal. Preloaded into real workers, and into nothing else. */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void spin(int number) {
    for (;;) number++;
}

static void block(int number) {
    (void)number;
    for (;;) pause();
}

static void leak(int number) {
    (void)number;
    mmap(NULL, 96 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

__attribute__((constructor)) static void begin(int argc, char **argv) {
    if (argc < 3 || strcmp(argv[1], "worker")) return;
    signal(SIGUSR1, spin);
    signal(SIGUSR2, block);
    signal(SIGPROF, leak);
}
