"""Advice for each class of failure, one line each, and for tracks that are not retried any more."""

from __future__ import annotations

RETRY_HINT = (
    "tracks with permanent errors, or three failed tries, are not retried until their files change: a run of a folder sees "
    "that itself, a manifest has to be made again with sep-batch manifest; --retry all retries them now"
)
ADVICE = {
    "bad_row": "invalid rows of the manifest: correct them, then run the same command again; the error names the row",
    "not_found": "no file at these URIs: correct the manifest, or the folder that its relative paths start from; "
    "if the files were missing, run with --retry all once they exist",
    "access_denied": "these credentials may not read these objects: grant them access, then run with --retry all",
    "archived": "these objects are in an archive such as Glacier: restore them, then run with --retry all",
    "fetch_timeout": "storage did not answer in eight attempts: run the same command again; it tries a track in up to three runs",
    "bad_uri": "URIs of an unsupported form: correct the manifest, then run the same command again",
    "storage_unusable": "wrong credentials, no such bucket, or a full disk: see sep-batch doctor URI, then run again",
    "unsupported_format": "no audio, or an unsupported codec: convert these files and run with --retry all, or remove them",
    "decode_error": "FFmpeg cannot decode these files: get new copies, or convert them, then run with --retry all",
    "decode_crash": "these files crash the decoder or exceed its time or memory: convert them, then run with --retry all",
    "empty_audio": "no samples, or none between offset and duration: correct these or the files, then run with --retry all",
    "too_long": "longer than 24 hours: set offset_s and duration_s in the manifest, or cut the files",
    "nonfinite": "all samples are NaN or Inf: create these files again, then run with --retry all",
    "damaged": "less than half was decoded, or less than all with --damaged fail: get new copies, then run with --retry all",
    "track_timeout": "over --time-limit: run the same command again, with a higher limit if the files are on slow storage",
    "wrong_sum": "a GPU, or a machine, computes wrong values: run sep-batch doctor there, and run again without it",
    "out_of_memory": "not enough memory even for the smallest batch: run again with nothing else on that GPU or machine",
    "worker_crash": "each crashed its worker three times: see Ray's logs on the node, and open an issue with one such file",
    "write_error": "OUT's storage did not accept the stems: see sep-batch doctor OUT, then run again",
    "bug": "a defect of sep-batch: open an issue with the traceback, which is in the index's column error",
}
