"""Formats of a dataset: one file a format.

Files:
    base: Excerpts and shards as every writer takes them.
    choose: The writer of a format, by name.
    lhotse: Lhotse Shar.
    musdb: The layout of MUSDB18-HQ.
    parquet: Parquet, and Parquet for Hugging Face datasets.
    webdataset: WebDataset.
"""
