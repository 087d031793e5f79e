/* How many cores this process may use: its affinity and its cgroup's quota. */
#ifndef WORKER_CORES_H
#define WORKER_CORES_H

unsigned cores_usable(void); /* at least 1 */

#endif
