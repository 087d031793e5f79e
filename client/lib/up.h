/* The socket of this user's `tidemill up`. */
#ifndef CLIENT_LIB_UP_H
#define CLIENT_LIB_UP_H

#include <stdbool.h>
#include "base/err.h"

char *up_directory(void); /* where its socket "up" is; caller frees */
bool up_listens(const char *socket_path);
/* It is a directory of this user that no other can enter; else false and err. */
bool up_directory_is_own(const char *dir, struct err *err);

#endif
