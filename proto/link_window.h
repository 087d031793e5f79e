/* R10: how much bulk may be on its way to a peer. What the peer has not said it took is
 * in flight: at most what the link moved in the last 2 s, so that whatever is sent next
 * waits for no longer. Bulk is bodies; both sides count their bytes from the connection's
 * beginning. Pure: time comes in. */
#ifndef PROTO_LINK_WINDOW_H
#define PROTO_LINK_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    LINK_WINDOW_MIN = 256 * KIB,            /* when nothing is known of the link */
    LINK_WINDOW_MAX = 8 * MIB,              /* P4: it is memory of ours */
    LINK_TAKEN_EVERY = LINK_WINDOW_MIN / 4, /* the peer says so */
    LINK_WINDOW_SLOTS = 8,
};
#define LINK_WINDOW_NS (2 * NS_PER_S)

struct link_window {
    uint64_t sent, taken; /* bytes of ours, and what the peer took of them */
    uint64_t got, told;   /* the peer's bytes, and what it was told of them */
    uint64_t moved[LINK_WINDOW_SLOTS]; /* taken in each slot of time, a ring */
    int64_t slot;                      /* number of the newest */
};

/* The peer says how many bytes it took of all. */
void link_window_taken(struct link_window *w, uint64_t bytes, int64_t now_ns);
uint64_t link_window_in_flight(const struct link_window *w);
/* May more bulk go? One message may overdraw. */
bool link_window_open(struct link_window *w, int64_t now_ns);
/* So many bytes came in. */
void link_window_got(struct link_window *w, uint64_t bytes);
/* The peer is to be told w->got; w->told is that once it has left. */
bool link_window_untold(const struct link_window *w);

#endif
