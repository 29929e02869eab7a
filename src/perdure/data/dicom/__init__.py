"""DICOM: one series as a volume, one radiograph or mammogram as a picture."""
