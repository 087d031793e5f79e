/* The node's functions under names of their own: coordinator and worker, which are never
 * linked together elsewhere, both have a lease_new. Included before anything of the
 * worker, by its own files too (see tests/CMakeLists.txt). The linker names what is
 * missing here. */
#ifndef SIM_WORKER_NAMES_H
#define SIM_WORKER_NAMES_H

#define lease_find    worker_lease_find
#define lease_new     worker_lease_new
#define lease_unref   worker_lease_unref
#define lease_input   worker_lease_input
#define job_of        worker_job_of
#define node_new      worker_node_new
#define node_stop     worker_node_stop
#define node_free     worker_node_free
#define node_failure  worker_node_failure
#define node_result   worker_node_result
#define crypto_random sim_random

#endif
