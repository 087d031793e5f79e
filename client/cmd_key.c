/* tidemill key: age identities, and the keys of links. What is of this host's files alone
 * needs no cluster. */
#include "client/admit.h"
#include "client/cmd.h"
#include "client/keys.h"
#include "client/sub.h"

#include <string.h>

/* Trust goes both ways: here, that a coordinator has this key; there, whose it is. */
static int trust(const struct call *call, const char *const *args, size_t n)
{
    return strstr(args[0], "://") ? key_trust(call, args, n) : admit_trust(call, args, n);
}

static const struct sub subs[] = {
    { "identity", "FILE", "make an age identity, print whom to encrypt to", NULL, 1, 1,
      key_identity, sub_alone },
    { "recipient", "FILE", "print an age identity's recipient", NULL, 1, 1, key_recipient,
      sub_alone },
    { "gen", "NAME", "make a key for links (--role), print its public key",
      "|role|output|", 1, 1, key_gen, sub_alone },
    { "trust", "ENDPOINT KEY | NAME KEY --role ROLE [--owner NAME] [--expires TIME]",
      "the coordinator there has this key; or: on the cluster, it is NAME's",
      "|role|owner|expires|", 2, 2, trust, sub_alone },
    { "join", "INVITE|@FILE", "make a key and enrol it by an invitation", NULL, 1, 1,
      key_join, sub_alone },
    { "invite", "--role ROLE [--name NAME] [--owner NAME] [--uses N] [--expires TIME]",
      "print an invitation: whoever has it may enrol a key",
      "|role|owner|uses|expires|endpoint|", 0, 0, admit_invite, NULL },
    { "revoke", "NAME|KEY...",
      "let keys come no more, and end their connections; jobs they sealed run on", NULL,
      1, SIZE_MAX, admit_revoke, NULL },
    { "ls", "", "list the keys that the cluster knows", NULL, 0, 0, admit_list, NULL },
    { NULL, NULL, NULL, NULL, 0, 0, NULL, NULL },
};

#define OFF(field) offsetof(struct key_options, field)
static const struct opt table[] = {
    { "role", 0, OPT_CHOICE, OFF(role), "ROLE", NULL, 0, 0, "client|worker|admin",
      "whose key it is to be" },
    { "output", 'o', OPT_STR, OFF(output), "FILE", NULL, 0, 0, NULL,
      "gen: where the key goes; NAME.key by default" },
    { "owner", 0, OPT_STR, OFF(owner), "NAME", NULL, 0, 0, NULL,
      "trust, invite: whose jobs it submits; else the key's name" },
    { "expires", 0, OPT_DURATION, OFF(expires_ns), "TIME", NULL, 0, 0, NULL,
      "trust: how long it is good, else for ever; invite: else a day" },
    { "uses", 0, OPT_INT, OFF(uses), "N", "1", 1, UINT32_MAX, NULL,
      "invite: how many may come by it" },
    { "endpoint", 0, OPT_STR, OFF(endpoint), "ENDPOINT", NULL, 0, 0, NULL,
      "invite: where they come, if not where the coordinator says" },
    { 0 },
};

int cmd_key(int argc, char **argv)
{
    struct key_options o = { 0 };
    return sub_run("key", subs, table, &o, argc, argv);
}
