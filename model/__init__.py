"""Spleeter's separation in PyTorch: tensors in, tensors out. No rows, no Ray, no storage.

Files:
    spec: The description of a model: stems, constants, the network's shape.
    unet: The network as the paper has it.
    inference: The network in the form that runs.
    spectrogram: STFT and its inverse, as Spleeter does them; patches.
    parts: A wave in parts that are separated on their own.
    separator: Magnitudes to masks, masks to stems.
    checkpoint: TensorFlow checkpoints are read.
    weights: Published weights: downloaded, checked, converted, loaded.
"""
