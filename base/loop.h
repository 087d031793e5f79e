/* The one event loop of a thread, over select, poll or epoll (libev underneath; the only
 * user of ev.h). One loop belongs to one thread; only loop_wake_post may be called from
 * another. Callbacks never run inside the call that armed them. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum loop_backend { LOOP_AUTO, LOOP_SELECT, LOOP_POLL, LOOP_EPOLL };
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_FIRST = 4 };

struct loop;
struct loop_io;
struct loop_timer;
struct loop_wake;
struct loop_hook;
struct loop_signal;

int loop_new(enum loop_backend backend, struct loop **ret_loop, struct err *err);
void loop_free(struct loop *loop); /* takes NULL */
/* "auto", "select", "poll", "epoll" -> backend; -1 if unknown. */
int loop_backend_parse(const char *name, enum loop_backend *ret_backend);
const char *loop_backend_name(const struct loop *loop); /* the one in use */
/* Runs until loop_stop. */
void loop_run(struct loop *loop);
/* One turn: waits if wait is true and nothing is ready, then handles what is. */
void loop_once(struct loop *loop, bool wait);
void loop_stop(struct loop *loop);
int64_t loop_now_ns(const struct loop *loop); /* monotonic, read once a turn */
typedef void loop_io_fn(void *arg, int events);
typedef void loop_fn(void *arg);

/* Watches fd for LOOP_READ | LOOP_WRITE. Stopped when freed; free before closing fd. With
 * LOOP_FIRST fn runs before the hooks of its turn, else after them. */
struct loop_io *loop_io_new(struct loop *loop, int fd, int events, loop_io_fn *fn,
                            void *arg);
void loop_io_set(struct loop_io *io, int events); /* 0 = pause */
void loop_io_free(struct loop_io *io);            /* takes NULL */

/* A timer, not armed yet. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg);
/* Fires once after delay_ns (0 = next turn); arming again moves it. */
void loop_timer_arm(struct loop_timer *timer, int64_t delay_ns);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/* Lets other threads run fn on the loop's thread; posts may be merged. */
struct loop_wake *loop_wake_new(struct loop *loop, loop_fn *fn, void *arg);
void loop_wake_post(struct loop_wake *wake); /* any thread; async-signal-safe */
void loop_wake_free(struct loop_wake *wake); /* takes NULL */

/* before_wait runs just before the loop would block and says whether it must not (true =
 * poll only); after_wait runs after each wait. For libraries with edge-triggered fds. The
 * newest hook is asked first, and told first. */
struct loop_hook *loop_hook_new(struct loop *loop, bool (*before_wait)(void *arg),
                                loop_fn *after_wait, void *arg);
void loop_hook_free(struct loop_hook *hook); /* takes NULL */

/* Runs fn when the process gets the signal. */
struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_fn *fn, void *arg);
void loop_signal_free(struct loop_signal *sig); /* takes NULL */

#endif
