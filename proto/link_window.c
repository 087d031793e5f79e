#include "proto/link_window.h"

#include <string.h>

/* Forgets what was moved before the last LINK_WINDOW_NS. */
static void advance(struct link_window *w, int64_t now_ns)
{
    int64_t slot = now_ns / (LINK_WINDOW_NS / LINK_WINDOW_SLOTS);

    if (slot - w->slot >= LINK_WINDOW_SLOTS)
        memset(w->moved, 0, sizeof(w->moved));
    else
        while (w->slot < slot)
            w->moved[++w->slot % LINK_WINDOW_SLOTS] = 0;
    w->slot = MAX(w->slot, slot);
}

void link_window_taken(struct link_window *w, uint64_t bytes, int64_t now_ns)
{
    bytes = MIN(bytes, w->sent);
    if (bytes <= w->taken)
        return;
    advance(w, now_ns);
    w->moved[w->slot % LINK_WINDOW_SLOTS] += bytes - w->taken;
    w->taken = bytes;
}

uint64_t link_window_in_flight(const struct link_window *w)
{
    return w->sent - w->taken;
}

bool link_window_open(struct link_window *w, int64_t now_ns)
{
    uint64_t moved = 0;

    advance(w, now_ns);
    for (int i = 0; i < LINK_WINDOW_SLOTS; i++)
        moved += w->moved[i];
    moved = MIN(MAX(moved, (uint64_t)LINK_WINDOW_MIN), (uint64_t)LINK_WINDOW_MAX);
    return link_window_in_flight(w) < moved;
}

void link_window_got(struct link_window *w, uint64_t bytes)
{
    w->got += bytes;
}

bool link_window_untold(const struct link_window *w)
{
    return w->got - w->told >= LINK_TAKEN_EVERY;
}
