"""The program, also as ``python -m onestride``; what it imports takes a second, in which Ctrl-C comes too."""


def main() -> None:
    """Entry point."""
    try:
        from onestride.cores import set_up_threads

        said = set_up_threads()  # before anything imports torch
        from onestride.cli import main as carry_out
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    carry_out(said=said)


if __name__ == "__main__":
    main()
