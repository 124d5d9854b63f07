# The role of targetgate for EKS Pod Identity.

variable "cluster_name" {
  type = string
}

variable "role_name" {
  description = "Name of the role, which no other cluster of the account may have. Up to 64 characters."
  type        = string
  default     = null
}

variable "register_targets" {
  description = "Whether targetgate registers targets: the chart's targets.register is not none."
  type        = bool
  default     = false
}

variable "doctor" {
  description = "Whether ServiceAccount targetgate-doctor gets a role of its own: the chart's doctor.aws."
  type        = bool
  default     = false
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  # Names of clusters are longer than those of roles may be.
  role_name = coalesce(var.role_name, substr("targetgate-${var.cluster_name}", 0, 64))
  trust = replace(
    replace(file("${path.module}/trust-pod-identity.json"), "ACCOUNT", data.aws_caller_identity.this.account_id),
    "CLUSTER", var.cluster_name,
  )
}

resource "aws_iam_role" "targetgate" {
  name               = local.role_name
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "targetgate" {
  name   = "targetgate"
  role   = aws_iam_role.targetgate.id
  policy = file("${path.module}/policy.json")
}

resource "aws_iam_role_policy" "targets" {
  count = var.register_targets ? 1 : 0

  name   = "targetgate-targets"
  role   = aws_iam_role.targetgate.id
  policy = replace(file("${path.module}/policy-targets.json"), "PARTITION", data.aws_partition.this.partition)
}

resource "aws_eks_pod_identity_association" "targetgate" {
  cluster_name    = var.cluster_name
  namespace       = "targetgate-system"
  service_account = "targetgate"
  role_arn        = aws_iam_role.targetgate.arn
}

# The role of targetgate doctor, which reads what targetgate itself does not.

resource "aws_iam_role" "doctor" {
  count = var.doctor ? 1 : 0

  name               = substr("targetgate-doctor-${var.cluster_name}", 0, 64)
  assume_role_policy = replace(local.trust, "\"targetgate\"", "\"targetgate-doctor\"")
}

resource "aws_iam_role_policy" "doctor" {
  for_each = var.doctor ? toset(["policy", "policy-doctor"]) : toset([])

  name   = each.value
  role   = aws_iam_role.doctor[0].id
  policy = file("${path.module}/${each.value}.json")
}

resource "aws_eks_pod_identity_association" "doctor" {
  count = var.doctor ? 1 : 0

  cluster_name    = var.cluster_name
  namespace       = "targetgate-system"
  service_account = "targetgate-doctor"
  role_arn        = aws_iam_role.doctor[0].arn
}

# For IRSA, use trust-irsa.json with your ACCOUNT, REGION and provider's ID as the assume_role_policy, omit the
# association, and annotate the ServiceAccount with the role's ARN.
