"""Measures files of samples that anybody made, by the field's metrics: what `codi-jax evaluate --samples` runs.

samples.py     a folder of files, by key and modality
networks.py    feature networks by name: Inception, VGGish, the prompt encoders of a CoDi model, or a plugin's
features.py    features of all samples in memory-mapped files, with which a stopped run goes on
study.py       both folders and the networks: what the metrics ask for
measures/      which metrics apply to what, one file for each kind
measure.py     all of it: metrics.json and a table
"""
