"""The embedded default policy: a GLM-4V-architecture model of a few million parameters, built and pre-trained here."""
