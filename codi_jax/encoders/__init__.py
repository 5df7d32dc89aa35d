"""Codecs, prompt encoders and vocoders of published families. Sizes come from configs."""
