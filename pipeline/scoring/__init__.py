"""Scores: how far one wave is from another, read block by block from two or more files.

Files:
    aligned: Several waves, cut into blocks of the same length.
    sums: Energies of two waves and of their difference, and the ratios made of them.
    references: The true stems of a track, and the sums of them that a stem is scored against.
    track: The scores of a track's stems against its references.
    bsseval: BSSEval v4, by the package museval.
    stem_file: A stem of an OUT as the index describes it, decoded.
"""
