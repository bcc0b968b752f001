-- What the codes of err(num) mean.
CREATE OR REPLACE VIEW error_codes
(
    code       Int64                  COMMENT 'num of the status err(num). Not an API errcode: err(40001) is the administrator''s refusal.',
    category   LowCardinality(String) COMMENT 'Who rejects with it: review, originality, admin, or unknown.',
    reason_zh  String                 COMMENT 'The reason in Chinese.',
    reason_en  String                 COMMENT 'The reason in English.',
    documented Bool                   COMMENT 'Whether WeChat documents the code.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT code, category, reason_zh, reason_en, documented
FROM error_code_rows FINAL
ORDER BY code
COMMENT 'The codes of err(num) that are known. WeChat''s list is open: audit_failures shows any other code, with category unknown.';
