/* What a service manager hears of a daemon: the datagrams of sd_notify(3). */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

/* Sends a state ("READY=1", "STOPPING=1") to the socket that NOTIFY_SOCKET names; does
 * nothing where it names none. That nobody hears it is logged and changes nothing. Does
 * not wait: a manager that does not read misses it. Any thread, but not beside a setenv.
 */
void notify(const char *state);

#endif
