"""The stages as a Ray Data pipeline.

Files:
    flow: The pipeline: Read, Analyze, Separate, Write.
    resources: Actors of each stage, their CPUs and GPUs.
    joins: Tasks that join the parts of long tracks.
    ray_data: Settings and private names of Ray Data; check this file with every new Ray.
    actors: Actors that lost their node, which are given up after a time.
"""
