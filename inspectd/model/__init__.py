"""A calibrated model as data: what its folder holds, read strictly, installed and rolled back.

Owns the format of model folders. Runs in whichever thread calls it. Never imports torch: what computes is in
`inspectd.simplenet` and in the engine's backends.

artefact     a model folder: files, digests, the seal, the plain unpickler
calibration  the records of params.pkl and calibration.json
geometry     which part of a picture is inspected; framing: fingerprints of a camera's view
store        install and roll back; locate: which model of a run folder is meant
"""
