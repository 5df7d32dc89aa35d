"""Media: reads, writes and shows files of images, audio and video. Independent of the models and of data sets."""
