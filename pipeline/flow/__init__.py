"""The stages as a Ray Data pipeline.

Files:
    flow: The pipeline: Read, Analyze, Separate, Write.
    resources: Actors of each stage, their CPUs and GPUs.
    joins: Long tracks, whose parts are joined in tasks beside the flow.
    ray_data: Settings and private names of Ray Data; look here with a new Ray.
    actors: Actors whose node is gone are given up after a time.
"""
