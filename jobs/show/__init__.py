"""`show`: a picture of a track.

Files:
    show: `show`: the track, its mix and stems decoded.
    picture: The picture, by matplotlib.
"""

from sep_batch.jobs.show.show import run_show

__all__ = ["run_show"]
