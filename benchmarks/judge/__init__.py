"""`make judge`: sounds of a model beside held-out recordings, by features that were trained elsewhere."""
