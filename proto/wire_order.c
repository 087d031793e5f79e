/* Orders and questions of clients, and their answers. */
#include "proto/wire_pb.h"

void wire_put_cancel(const struct msg *m, union any *a)
{
    tidemill__cancel__init(&a->cancel);
    a->cancel.job = m->cancel.job;
    a->cancel.id = m->cancel.id;
}

int wire_take_cancel(struct in *in)
{
    in->m->cancel = (struct msg_cancel){ in->e->cancel->job, in->e->cancel->id };
    return 0;
}

void wire_put_pause(const struct msg *m, union any *a)
{
    tidemill__pause__init(&a->pause);
    a->pause.job = m->pause.job;
    a->pause.resume = m->pause.resume;
    a->pause.id = m->pause.id;
}

int wire_take_pause(struct in *in)
{
    const Tidemill__Pause *p = in->e->pause;

    in->m->pause = (struct msg_pause){ p->job, p->resume, p->id };
    return 0;
}

void wire_put_remove(const struct msg *m, union any *a)
{
    tidemill__remove__init(&a->remove);
    a->remove.job = m->remove.job;
    a->remove.id = m->remove.id;
}

int wire_take_remove(struct in *in)
{
    in->m->remove = (struct msg_remove){ in->e->remove->job, in->e->remove->id };
    return 0;
}

void wire_put_drain(const struct msg *m, union any *a)
{
    tidemill__drain__init(&a->drain);
    a->drain.node = bytes_of(m->drain.node);
    a->drain.undo = m->drain.undo;
    a->drain.id = m->drain.id;
}

int wire_take_drain(struct in *in)
{
    in->m->drain.undo = in->e->drain->undo;
    in->m->drain.id = in->e->drain->id;
    return text(in, in->e->drain->node, WIRE_TEXT_MAX, &in->m->drain.node, "node");
}

void wire_put_query(const struct msg *m, union any *a)
{
    tidemill__query__init(&a->query);
    a->query.id = m->query.id;
    a->query.what = bytes_of(m->query.what);
    a->query.job = m->query.job;
}

int wire_take_query(struct in *in)
{
    in->m->query = (struct msg_query){ .id = in->e->query->id, .job = in->e->query->job };
    return text(in, in->e->query->what, WIRE_TEXT_MAX, &in->m->query.what, "query");
}

void wire_put_answer(const struct msg *m, union any *a)
{
    tidemill__answer__init(&a->answer);
    a->answer.id = m->answer.id;
    a->answer.n = m->answer.n;
    a->answer.last = m->answer.last;
}

int wire_take_answer(struct in *in)
{
    const Tidemill__Answer *a = in->e->answer;

    in->m->answer = (struct msg_answer){ a->id, a->n, a->last };
    return 0;
}
