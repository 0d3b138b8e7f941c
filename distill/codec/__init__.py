"""The codec: model, quantizers, search, fitting, losses, data, training, artefact and pretrained weights."""
