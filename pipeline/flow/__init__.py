"""The stages as a Ray Data pipeline.

Files:
    flow: The flow: operators, resources, and the settings of Ray Data.
    actors: Actors whose node is gone are given up after a time.
"""
