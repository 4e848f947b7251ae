"""`doctor`: check if a run would work on this machine.

Files:
    doctor: `doctor`: all checks, and the exit code.
    check_gpu: Checks of torch, the driver and each GPU.
    check_software: Checks of codecs, weights and Ray.
    check_storage: Checks of credentials, reads and writes.
"""

from sep_batch.jobs.doctor.doctor import run_doctor

__all__ = ["run_doctor"]
