"""The engine of a run: threads of this process, or Ray, started on this machine or joined on a cluster.

Files:
    choice: Choose the engine of a run, and start it.
    engine: Start or join Ray, and share its resources among the stages.
    head: Checks of a cluster's head before a driver joins it.
    cluster: Nodes of a cluster, the wait for GPUs, and checks of the nodes.
"""
