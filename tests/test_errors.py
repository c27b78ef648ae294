from portage_p2pbin.kernel.errors import MOST_SHOWN, DecodeError, ExitCode, P2pbinError, RefusedError, SettingsError, UnavailableError


def test_exit_codes_are_the_documented_ones():
    codes = {P2pbinError: 1, SettingsError: 2, UnavailableError: 3, RefusedError: 4, DecodeError: 4}
    assert {kind: int(kind.exit_code) for kind in codes} == codes
    assert ExitCode.DONE == 0


def test_what_an_attacker_writes_cannot_move_the_cursor():
    shown = str(RefusedError("P\x1b[2J", "a\x1b[2Jb", "c\nd"))
    assert "\x1b" not in shown
    assert "\n" not in shown


def test_what_an_attacker_writes_is_cut():
    assert len(str(UnavailableError("x" * 10**6, "y" * 10**6))) < 2 * MOST_SHOWN + 100


def test_a_settings_error_ends_with_what_to_do():
    assert str(SettingsError("P2PBIN_TRUST is '7'", "Write a number from 1 to 6.")) == "P2PBIN_TRUST is '7'. Write a number from 1 to 6."
