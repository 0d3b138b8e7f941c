@echo off
rem Opens Distill's page by a double click, on Windows. The first time takes minutes.
cd /d "%~dp0.."
if not exist .venv\Scripts\distill.exe (
  py -3 -m venv .venv && .venv\Scripts\python requirements\packages.py install requirements\lock.txt && .venv\Scripts\python -m pip install --no-deps --no-build-isolation --editable . || goto failed
)
.venv\Scripts\distill ui --open && exit /b 0
:failed
pause
