"""The stages as a pipeline, with one of two engines: Ray Data, or threads of this process.

Files:
    flow: The interface of a flow: Read, Analyze, Separate, Write.
    local_flow: The flow in threads of this process, without Ray.
    workers: Threads of a local flow: the workers of a stage, their queue, and the end of all.
    ray_flow: The flow as a Ray Data pipeline.
    resources: Workers of each stage, their CPUs and GPUs.
    joins: Ray tasks that join the parts of long tracks.
    ray_data: Settings and private names of Ray Data; check this file with every new Ray.
    held_gpus: GPUs that were given up, kept from every flow.
    actors: Ray's actors that lost their node, which are given up after a time.
"""
