"""All settings live in setup.cfg."""
from setuptools import setup

setup()
