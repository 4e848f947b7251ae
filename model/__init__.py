"""Spleeter's separation in PyTorch: tensors in, tensors out. No rows, no Ray, no storage.

Files:
    spec: The description of a model: stems, constants, the network's shape.
    unet: The network as the paper has it.
    inference: The network in a faster form with the same results.
    spectrogram: STFT and its inverse, as Spleeter computes them; patches.
    parts: Splitting of a wave into parts that are separated on their own.
    batching: Batches of patches, across calls.
    masks: Estimates to ratio masks.
    wiener: The multichannel Wiener filter: the estimates of a track to its stems.
    separator: All U-Nets of a model: parts to stems, or to estimates.
    stems: The result of a separation, and how a notebook shows it.
    pitch_spectrogram: Levels of a wave over time and pitch, for pictures.
    cuda_errors: Errors of CUDA, told apart by type and text.
    checkpoint: Reading of TensorFlow checkpoints.
    published: Published archives of weights: sources, checksums, download.
    weights: The cache, the conversion to a folder that loads, and its loading.
"""
