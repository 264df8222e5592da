"""How fast training and inference are here, beside a plain transcription of the published loop."""
