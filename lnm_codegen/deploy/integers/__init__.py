"""Trained networks in integers: conversion, formats, accuracy."""
