/* Joining a cluster by an invitation: a fresh key is made and enrolled with the
 * invitation's token, which may do nothing else. */
#ifndef PROTO_ENROL_H
#define PROTO_ENROL_H

#include "proto/invite.h"

struct enrol {
    const struct invite *invite;
    const char *key_path, *pins_path;
    const char *name;   /* of the key, as the coordinator is to list it */
    int64_t timeout_ns; /* 0 = as long as it takes until the coordinator answers */
};

/* Where there is a key file already, it is used. Else one is made and enrolled; it gets
 * its name once the coordinator has it on disk, so that what was interrupted at any place
 * is finished by another call. Either way the coordinator is in known_keys then. Blocks;
 * err codes 5 (refused) and 6 (no answer). *ret_name: what the
 * coordinator calls the new key (caller frees), NULL where there was one already. */
int enrol(const struct enrol *e, char **ret_name, struct err *err);

#endif
