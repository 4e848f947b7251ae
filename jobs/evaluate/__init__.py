"""`evaluate`: how good stems are, on songs with true stems.

Files:
    evaluate: `evaluate`: separate the mixes, score the stems, and judge the result.
    references: The true stems of a manifest or of a folder in MUSDB's layout.
    matching: The tracks of an OUT that have references.
    scores: The scores of many tracks at once; finished ones are kept in OUT.
    statistics: Median, mean and lowest of each stem; required medians; differences to an earlier evaluation.
    picture: The distribution over tracks as a PNG.
    report: The result as text and JSON.
"""

from sep_batch.jobs.evaluate.evaluate import run_evaluate

__all__ = ["run_evaluate"]
