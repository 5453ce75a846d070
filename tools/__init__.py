"""Maintainers' scripts: environment, batch runner, generators."""
