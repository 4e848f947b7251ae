"""Advice for each class of failure, one line each, and for tracks that failed for good."""

from __future__ import annotations

ONCE_MENDED = (
    "tracks that failed for good are tried again once their files are mended: with --retry all, or from a manifest that "
    "sep-batch manifest made again; of a folder, by every run"
)
ADVICE = {
    "bad_row": "rows of the manifest that name no track: correct them there, then the same run again; the error says which row",
    "not_found": "nothing lies at these URIs: check the manifest's against the storage, and what relative ones are relative to; "
    "once the files are there, --retry all",
    "access_denied": "these objects may not be read with these credentials: give them the right to, then --retry all",
    "archived": "these objects lie in an archive, as Glacier, and cannot be read: restore them first, then --retry all",
    "fetch_timeout": "storage did not answer in time, eight times over: the same run again tries them, three times in all",
    "bad_uri": "URIs of a form that is not read: correct the manifest, then the same run again",
    "storage_unusable": "wrong credentials, no such bucket, a full disk: sep-batch doctor URI tells; then the same run again",
    "unsupported_format": "no audio, or a codec that is not read: convert these files, then --retry all, or take them out",
    "decode_error": "FFmpeg cannot read these files: bring them anew from where they came, or convert them, then --retry all",
    "decode_crash": "each broke the decoder, or was over its limits of time and memory: convert these files, then --retry all",
    "empty_audio": "no samples, or none between offset and duration: correct those, or bring the files anew, then --retry all",
    "too_long": "longer than 24 hours: give offset_s and duration_s in the manifest, or cut the files",
    "nonfinite": "these files hold nothing but NaN and Inf: make them anew, then --retry all",
    "damaged": "less than half came out, or with --damaged fail not all: bring these files anew, then --retry all",
    "track_timeout": "over --time-limit: the same run again tries them; give it a higher one where files are on slow storage",
    "out_of_memory": "no room even for the smallest batch: the same run again, with nothing else on that GPU or machine",
    "worker_crash": "each killed its process three times: see Ray's logs on the node, and open an issue with one such file",
    "write_error": "OUT's storage did not take the stems: sep-batch doctor OUT tells; then the same run again",
    "bug": "a defect of sep-batch: open an issue with its traceback, which the index has in the column error",
}
