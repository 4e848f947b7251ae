"""Ray, started on this machine or joined on a cluster.

Files:
    engine: Ray is started or joined, and its resources are shared out among the stages.
    head: The head of a cluster, asked before a driver joins it.
    cluster: The machines of a cluster, and the GPUs that are waited for.
"""
