#include "coordinator/damage.h"

#include "base/log.h"

void damage_tell(const struct fx_group *g)
{
    static const char then[] = "then=\"tidemill-coordinator check --state DIR\"";
    const struct fx *fx;

    if (!g->reads)
        return;
    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type == FX_READ_CHUNK && fx->read_chunk.damaged)
            log_error("damaged", "job=%llu chunk=%u effect=\"its tasks fail\" %s",
                      (unsigned long long)fx->read_chunk.job, fx->read_chunk.seq, then);
        if (fx->type == FX_READ_RESULTS && fx->read_results.damaged)
            log_error("damaged", "job=%llu batch=%llu effect=\"results are refused\" %s",
                      (unsigned long long)fx->read_results.job,
                      (unsigned long long)fx->read_results.ret.row, then);
    }
}
