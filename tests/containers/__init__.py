"""Containers without an engine: deploy/Dockerfile and docker-compose.yml, read and carried out."""
