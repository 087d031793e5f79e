/* tidemill key: age identities, and the keys of links. What is of this host's files alone
 * needs no cluster. */
#include "client/cmd.h"
#include "client/keys.h"
#include "client/sub.h"

static const struct sub subs[] = {
    { "identity", "FILE", "make an age identity, print whom to encrypt to", NULL, 1, 1,
      key_identity, sub_alone },
    { "recipient", "FILE", "print an age identity's recipient", NULL, 1, 1, key_recipient,
      sub_alone },
    { "gen", "NAME", "make a key for links (--role), print its public key",
      "|role|output|", 1, 1, key_gen, sub_alone },
    { "trust", "ENDPOINT KEY",
      "the coordinator there has this key: known_keys says so from now on", NULL, 2, 2,
      key_trust, sub_alone },
    { "join", "INVITE|@FILE", "make a key and enrol it by an invitation", NULL, 1, 1,
      key_join, sub_alone },
    { NULL, NULL, NULL, NULL, 0, 0, NULL, NULL },
};

#define OFF(field) offsetof(struct key_options, field)
static const struct opt table[] = {
    { "role", 0, OPT_CHOICE, OFF(role), "ROLE", NULL, 0, 0, "client|worker|admin",
      "whose key it is to be" },
    { "output", 'o', OPT_STR, OFF(output), "FILE", NULL, 0, 0, NULL,
      "gen: where the key goes; NAME.key by default" },
    { 0 },
};

int cmd_key(int argc, char **argv)
{
    struct key_options o = { 0 };
    return sub_run("key", subs, table, &o, argc, argv);
}
