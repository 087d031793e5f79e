/* Room on the state's file system (R13). No SQL here. */
#ifndef COORDINATOR_STORE_SPACE_H
#define COORDINATOR_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that this process may still write there; UINT64_MAX when it cannot be told. */
uint64_t space_free(const char *dir);

/* A file that only takes up room, DIR/reserve: let go so that what gives room back can
 * run. True: so many bytes are held now. */
bool reserve_take(const char *dir, uint64_t bytes);
void reserve_let_go(const char *dir);

#endif
