"""What comes from elsewhere: unpaired sets, patients, the ImageNet network, Hub modules."""
