/* Every message of every role is tried: the table that comes out is the one in
 * proto/PROTOCOL.md, which is printed anew when it is another. */
#include "tests/unit/key_rig.h"

#include "coordinator/dispatch.h"

enum { ME = ALICE, OTHERS_JOB = 1, OWN_JOB = 2 };

static const struct case_row {
    const char *name;
    enum msg_type type;
    bool of_job; /* it names one */
    const char *what;
} cases[] = {
    { "Hello", MSG_HELLO, false, NULL },
    { "Beat", MSG_BEAT, false, NULL },
    { "Taken", MSG_TAKEN, false, NULL },
    { "Error", MSG_ERROR, false, NULL },
    { "Enrol", MSG_ENROL, false, NULL },
    { "Submit", MSG_SUBMIT, true, NULL },
    { "Chunk", MSG_CHUNK, true, NULL },
    { "Seal", MSG_SEAL, true, NULL },
    { "Follow", MSG_FOLLOW, true, NULL },
    { "Credit", MSG_CREDIT, false, NULL },
    { "Pause", MSG_PAUSE, true, NULL },
    { "Cancel", MSG_CANCEL, true, NULL },
    { "Remove", MSG_REMOVE, true, NULL },
    { "Query jobs", MSG_QUERY, true, "jobs" },
    { "Query job", MSG_QUERY, true, "job" },
    { "Query explain", MSG_QUERY, true, "explain" },
    { "Query nodes", MSG_QUERY, false, "nodes" },
    { "Query status", MSG_QUERY, false, "status" },
    { "Query keys", MSG_QUERY, false, "keys" },
    { "Drain", MSG_DRAIN, false, NULL },
    { "Key", MSG_KEY, false, NULL },
    { "Done", MSG_DONE, false, NULL },
    { "Published", MSG_PUBLISHED, false, NULL },
    { "Welcome", MSG_WELCOME, false, NULL },
    { "Accepted", MSG_ACCEPTED, false, NULL },
    { "Lease", MSG_LEASE, false, NULL },
    { "Committed", MSG_COMMITTED, false, NULL },
    { "Results", MSG_RESULTS, false, NULL },
    { "Answer", MSG_ANSWER, false, NULL },
    { "Revoke", MSG_REVOKE, false, NULL },
};

static enum peer_role hello_role(enum peer_role role)
{
    return role == ROLE_WORKER ? ROLE_WORKER : ROLE_CLIENT;
}

static struct msg message_of(const struct case_row *c, enum peer_role role, uint64_t job)
{
    static const uint32_t no_length;
    struct msg m = { .type = c->type };

    if (c->type == MSG_HELLO) {
        m = hello_as(ME, hello_role(role));
    } else if (c->type == MSG_SUBMIT) {
        m.submit = (struct msg_submit){ .key = { (uint8_t)job }, .spec = spec_of(false) };
    } else if (c->type == MSG_CHUNK) {
        m.chunk = (struct msg_chunk){ .job = job, .n = 1, .lens = &no_length };
        digest_of(&no_length, 1, SPAN_NONE, m.chunk.digest);
    } else if (c->type == MSG_QUERY) {
        m.query = (struct msg_query){ .id = 1, .what = span_str(c->what), .job = job };
    } else if (c->type == MSG_ENROL) {
        m.enrol =
            (struct msg_enrol){ .id = 1, .public_key = { 99 }, .name = SPAN_LIT("new") };
    } else if (c->type == MSG_KEY) {
        m.key = (struct msg_key){ .id = 1, .verb = KEY_REVOKE, .name = SPAN_LIT("x") };
    } else if (c->of_job) { /* Seal, Follow, Pause, Cancel and Remove begin with it */
        m.seal.job = job;
    }
    return m;
}

/* A scheduler with job 1, which is somebody else's, and with me in this role, who has
 * job 2 if I may have one. here: on the coordinator's host, without a key. */
static void set_up(struct rig *r, enum peer_role role, bool here)
{
    static const struct case_row submit = { "", MSG_SUBMIT, true, NULL };
    struct msg hello_msg = hello_as(ME, hello_role(role));
    struct msg submit_msg = message_of(&submit, role, OWN_JOB);

    *r = (struct rig){ .quota.priority = INT32_MAX };
    rig_init(r);
    if (here)
        say_and_commit(r, ME, &hello_msg);
    else
        come(r, ME, "alice", role);
    if (dispatch_may(role, MSG_SUBMIT))
        fx_group_free(
            commit(r, here ? say(r, ME, &submit_msg) : say_as(r, ME, &submit_msg)));
}

enum outcome { NO, YES, REFUSED };

static enum outcome outcome_of(const struct case_row *c, const struct fx_group *g)
{
    const struct msg *error = sent_to(g, ME, MSG_ERROR);
    const struct msg *answer = sent_to(g, ME, MSG_ANSWER);
    bool role = error && error->error.text.len > 11 &&
                memcmp(error->error.text.data, "not allowed", 11) == 0;

    if (role) {
        assert_int_equal(error->error.code, 5);
        assert_int_equal(error->error.about, c->type);
        return NO;
    }
    if (c->of_job && error && (error->error.code == 9 || error->error.code == 5))
        return REFUSED;
    if (c->of_job && c->type == MSG_QUERY && !error && answer && answer->answer.n == 0)
        return REFUSED;
    return YES;
}

static enum outcome ask(const struct case_row *c, enum peer_role role, bool here,
                        uint64_t job, uint32_t *ret_rows)
{
    struct rig r;

    set_up(&r, role, here);
    struct msg m = message_of(c, role, job);
    struct fx_group *g = here ? say(&r, ME, &m) : say_as(&r, ME, &m);
    enum outcome o = outcome_of(c, g);
    const struct msg *answer = sent_to(g, ME, MSG_ANSWER);
    *ret_rows = answer ? answer->answer.n : 0;
    fx_group_free(g);
    sched_free(r.sched);
    return o;
}

static const char *cell(const struct case_row *c, enum peer_role role, bool here)
{
    uint32_t rows;
    enum outcome others = ask(c, role, here, OTHERS_JOB, &rows), own;

    if (others == NO || !c->of_job)
        return others == NO ? "-" : "yes";
    own = ask(c, role, here, OWN_JOB, &rows);
    assert_int_equal(own, YES);
    if (c->what && strcmp(c->what, "jobs") == 0)
        return rows == 1 ? "own" : "all";
    return others == REFUSED ? "own" : "all";
}

static void print_table(struct buf *out)
{
    buf_printf(out, "%-13s %-7s %-7s %-7s %s\n", "", "client", "worker", "admin",
               "invite");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_printf(out, "%-13s ", cases[i].name);
        for (enum peer_role role = 0; role < ROLE_COUNT; role++)
            buf_printf(out, role == ROLE_INVITE ? "%s\n" : "%-7s ",
                       cell(&cases[i], role, false));
    }
}

/* The block of the page that is fenced as `roles`. */
static void read_page(struct buf *out)
{
    const char *source = getenv("TM_SOURCE");
    AUTO_FREE char *path = xasprintf("%s/proto/PROTOCOL.md", source ? source : ".");
    FILE *f = fopen(path, "re");
    bool in = false;
    char line[512];

    if (!f)
        fail_msg("%s: cannot be opened", path);
    while (fgets(line, sizeof(line), f)) {
        if (in && line[0] == '`')
            break;
        if (in)
            buf_add(out, line, strlen(line));
        in = in || strcmp(line, "```roles\n") == 0;
    }
    fclose(f);
}

static void the_page_says_who_may_say_what(void **state)
{
    AUTO_BUF table = BUF_INIT, page = BUF_INIT;

    (void)state;
    print_table(&table);
    read_page(&page);
    printf("%s", buf_str(&table));
    if (!span_eq(buf_span(&table), buf_span(&page)))
        fail_msg("PROTOCOL.md should have this table, fenced as `roles`");
}

static void every_message_is_tried(void **state)
{
    uint32_t tried = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        tried |= BIT(cases[i].type);
    for (unsigned t = 1; t < MSG_TYPE_COUNT; t++)
        if (!(tried & BIT(t)))
            fail_msg("%s is not tried", msg_type_name(t));
}

static bool is_tried(const char *what)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (cases[i].what && strcmp(cases[i].what, what) == 0)
            return true;
    return false;
}

/* The hint of an unknown one names them all. */
static void every_query_is_tried(void **state)
{
    struct msg m = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("?"), 0 } };
    struct rig r;

    (void)state;
    set_up(&r, ROLE_ADMIN, true);
    struct fx_group *g = say(&r, ME, &m);
    AUTO_FREE char *names = span_dup(sent_to(g, ME, MSG_ERROR)->error.hint);
    char *rest = names, *name;
    while ((name = strsep(&rest, ", ")))
        if (name[0] && !is_tried(name))
            fail_msg("Query %s is not tried", name);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Who is on the coordinator's host needs no key: he is an admin, or a worker. */
static void who_is_here_has_a_role_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(cell(&cases[i], ROLE_ADMIN, true),
                            cell(&cases[i], ROLE_ADMIN, false));
        assert_string_equal(cell(&cases[i], ROLE_WORKER, true),
                            cell(&cases[i], ROLE_WORKER, false));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_tried),
        cmocka_unit_test(every_query_is_tried),
        cmocka_unit_test(the_page_says_who_may_say_what),
        cmocka_unit_test(who_is_here_has_a_role_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
